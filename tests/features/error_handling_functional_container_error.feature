Feature: Error Handling - Functional Container Error
  This workflow addresses errors encountered within the single functional container during the
  processing of video tasks. It involves retries and escalation procedures to ensure task completion
  and system reliability.

  Scenario: Retry and Escalation for Functional Container Error
    Given the system is actively processing video transcoding tasks
    And the functional container encounters an error during its operation
    When the error is in pulling or pushing the video file
    Then the system checks the retry count against a predefined threshold
    And if the retry count is below the threshold, the operation is retried with exponential backoff
    But if the retry count exceeds the threshold, the error is escalated
    Then a ContainerErrorEscalation event is logged to the database
    And system administrators investigate and resolve the issue
    And once resolved, the system updates the task status and resumes processing

  Scenario: Basic Flow, while the retry count is below the threshold
    Given errors that are gone by the next attempt
    And the system is actively processing video transcoding tasks
    And the functional container is still functioning but has encountered an error during its operation
    When the functional container encounters an error during the pull, transcode, or push operation
    Then upon encountering an error, the functional container logs the error message and increments the retry counter for the task
    And the system checks the retry count against a predefined threshold to determine whether to retry the operation or escalate the issue
    And if the retry count is below the threshold:
    * the system retries the operation after a brief delay to allow for potential transient issues to resolve
    * if the retry is successful, the task continues as normal

  Scenario: Basic Flow, when the retry count exceeds the threshold
    Given errors that stay until somebody resolves them
    And the system is actively processing video transcoding tasks
    And the functional container is still functioning but has encountered an error during its operation
    When the functional container encounters an error during the pull, transcode, or push operation
    Then upon encountering an error, the functional container logs the error message and increments the retry counter for the task
    And the system checks the retry count against a predefined threshold to determine whether to retry the operation or escalate the issue
    And if the retry count exceeds the threshold:
    * the system escalates the issue to system administrators or designated personnel for manual intervention
    And system administrators investigate the root cause of the error
    * and take appropriate actions to resolve it, such as adjusting configurations, restarting the container, or reallocating resources
    And once the issue is resolved, the system updates the task status accordingly and resumes processing
    And progress updates and status changes are logged to the database for monitoring and tracking purposes
    # Postcondition
    And the system maintains reliability and availability by handling functional container errors gracefully
    * and ensuring timely resolution through retries and escalation procedures

  Scenario: Alternative Flow, the error is transient
    Given the system is actively processing video transcoding tasks
    When the object store dies before the video file is pulled, and is started again
    Then if the error is transient and resolves after a retry attempt, the system continues processing without escalation

  Scenario: Alternative Flow, the error persists
    Given the system is actively processing video transcoding tasks
    When the object store answers every request for the video file with an error of its own
    Then if the error persists despite retry attempts,
    * the system may implement additional measures, such as exponential backoff
    * or circuit breaker strategies,
    * before escalating the issue

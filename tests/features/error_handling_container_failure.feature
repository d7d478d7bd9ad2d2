Feature: Error Handling - Container Failure
  This workflow addresses the failure of the single container within the processing pod. It involves
  detection, recovery, and system stability measures to mitigate the impact of container failures on
  video processing tasks.

  Scenario: Detection and Recovery of Container Failure
    Given the system is actively processing video transcoding tasks
    And a container within the processing pod fails
    When the failure is detected by Docker Swarm
    Then a new container is automatically spawned
    And a ContainerFailureDetected event is logged to the database
    And failed tasks are requeued for processing
    And progress updates and status changes are logged for monitoring purposes

  Scenario: Basic Flow
    # Preconditions
    Given the system is actively processing video transcoding tasks
    And the system monitors container health through heartbeat signals or other health checks
    And the container failure affects the processing pod's ability to handle tasks
    # Trigger
    When the container fails due to runtime exceptions, resource exhaustion, or other critical issues
    # Basic flow
    Then upon detecting a container failure, the system marks the affected tasks as "failed" or "incomplete" and initiates recovery procedures
    And recovery procedures may involve restarting the failed container, rescheduling tasks within the same container, or reallocating resources as necessary
    And system administrators or automated processes investigate the root cause of the failure and take corrective actions to prevent recurrence
    And once the container is restored, the system resumes processing and updates task statuses accordingly
    And progress updates and status changes are logged to the database for monitoring and tracking purposes
    # Postcondition
    And the system maintains reliability and availability by promptly detecting and recovering from container failures,
    * ensuring minimal disruption to video processing operations

  Scenario: Alternative Flow, the failure persists
    Given the system is actively processing video transcoding tasks
    When every container that processes one of the videos fails
    Then if the failure persists despite recovery attempts,
    * the system may escalate the issue for further investigation by system administrators or engineers

  Scenario: Alternative Flow, resource constraints
    Given containers whose memory is limited
    And the system is actively processing video transcoding tasks
    And more videos wait
    When a container runs out of memory
    Then if the container failure is due to resource constraints,
    * the system may dynamically adjust resource allocations
    * or trigger autoscaling mechanisms to mitigate future failures

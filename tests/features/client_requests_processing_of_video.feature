Feature: Client Requests Processing of Video
  This workflow describes how a video is processed within a single pod and process. It involves
  receiving a message over RabbitMQ with a task ID, pulling the necessary video file from the object
  store, transcoding it, and uploading the transcoded file back to the storage service. This
  describes the happy path. Error handling is discussed later.

  Scenario: Processing of Video Task
    Given a client request received over the message bus / queue
    When the message is taken off of the message bus / queue
    Then a TaskReceived event is logged to the database
    And the necessary video file is pulled from the object store based on the task details
    Then a VideoFilePulled event is logged to the database
    And the video file is transcoded to desired resolutions and bitrates
    Then a VideoTranscoded event is logged to the database
    And the transcoded video file is uploaded back to the storage service
    Then a TranscodedVideoUploaded event is logged to the database

  Scenario Outline: Basic Flow, for a client that <client>
    # Preconditions
    Given the system is actively processing video transcoding tasks
    And the request is of a client that <client>
    And the video task details are available via RabbitMQ
    And the necessary video file exists in the object store
    # Trigger
    When client request received over RabbitMQ with a task ID
    # Basic flow
    Then take message off of RabbitMQ containing the task ID
    * log to the database that this task ID was taken off with details about the container that is processing it
    * retrieve task details from the database using the provided task ID
    * pull the necessary video file from the object store based on the task details
    * log in the database that the video file has been pulled for transcoding
    * transcode the video file to desired resolutions and bitrates
    * log in the database that the video has been transcoded
    * upload the transcoded video file back to the storage service
    * log in the database that the transcoded video has been uploaded

    Examples:
      | client                            |
      | has written the task's row itself |
      | cannot reach the database         |

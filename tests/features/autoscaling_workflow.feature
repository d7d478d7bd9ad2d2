Feature: Autoscaling Workflow
  This workflow describes how the system dynamically scales based on the CPU utilization of worker
  nodes.

  Scenario: Dynamic Scaling Based on Queue Size
    Given the video processing system is running
    When the service continuously monitors the queue length
    Then it compares the queue length to a pre-defined range
    And if the queue length is within the range
    Then the system configuration remains the same

    And if the queue length is too high
    And the ratio of containers to nodes is above a pre-defined threshold
    Then start up a new node
    And a WorkerNodeScaledUp event is logged to the database
    And start up a new container on that node
    And a ContainerScaledUp event is logged to the database
    And if the ratio of containers to nodes is below the threshold
    Then start up a new container
    And a ContainerScaledUp event is logged to the database

    And if the queue length is too low
    And the ratio of containers to nodes is above a pre-defined threshold
    Then stop sending work to a container
    And shut down the container when it finishes its current work
    And a ContainerScaledDown event is logged to the database
    And if the ratio of containers to nodes is below the threshold
    Then stop sending work to a specific container
    And shut down the container when it finishes its current work
    And a ContainerScaledDown event is logged to the database
    And copy over any containers running on that node to another node
    And shut down the node
    And a WorkerNodeScaledDown event is logged to the database

    And the system continues to monitor queue length
    And dynamically adjusts nodes and containers accordingly
    # What the issue promises beyond it
    And no part of any video was killed, or done twice
    And peerctl events tells the story of the burst

  Scenario: Basic Flow, by the CPU utilization
    # Preconditions
    Given the system is actively processing video transcoding tasks
    And the video has been uploaded in the correct format to the storage service
    # Basic flow
    When monitor the CPU utilization of all worker nodes
    Then if the average CPU utilization is high:
    * spin up additional worker nodes to handle the increased workload
    And if the average CPU utilization is very low:
    * block underutilized nodes from receiving any more work
    * and shut them down underutilized after they finish their current tasks
    And continue monitoring and adjusting the number of worker nodes as needed
    # What the issue promises beyond it
    And a ResourceUtilizationThresholdReached event is logged for each crossing
    And no part of any video was killed, or done twice

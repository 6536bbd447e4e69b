{"task_id":"r-plain","worker":"marie","event":"result","timestamp":"2025-11-22T10:00:00"}

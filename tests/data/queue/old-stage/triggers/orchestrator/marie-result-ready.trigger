{"task_id":"r-plain","worker":"marie","status":"complete","timestamp":"2025-11-22T10:00:00"}

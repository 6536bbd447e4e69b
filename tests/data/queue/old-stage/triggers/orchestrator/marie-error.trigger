{"task_id":"x","worker":"marie","status":"error","error_message":"no"}

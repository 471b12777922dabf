"""The only room that runs the user's code or opens the user's files.

TargetRequest -> spec -> user_code, names -> model, checkpoint, data, loss, optimizer -> Target
"""

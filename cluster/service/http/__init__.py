"""What the service says and takes over HTTP."""

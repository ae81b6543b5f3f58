"""`wsbridge doctor`: examines a deployment and names each fault with its cure."""

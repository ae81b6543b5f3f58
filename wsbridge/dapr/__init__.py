"""What the sidecar posts: deliveries are read, routed to users and answered."""

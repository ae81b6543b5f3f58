"""TCP connections of untrusted peers: accepted, limited, and read up to a complete request head."""

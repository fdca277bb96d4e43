"""What agents and controllers say to each other. Generated; see proto/virt_preflight/v1."""

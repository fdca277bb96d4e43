"""The fleet: asks many hosts, ranks them, explains. Knows neither libvirt nor domain XML."""

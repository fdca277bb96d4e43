"""Questions to libvirt about one guest, each of which may end in a refusal in libvirt's words."""

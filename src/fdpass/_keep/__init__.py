"""`fdpass keep`: runs a program, restarts it, and stores descriptors for it by the protocol of systemd."""

"""What Laser is compared with: one file each, one interface, and `collection` that names them all."""

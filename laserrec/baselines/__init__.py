"""What Laser is compared with, behind one small interface."""

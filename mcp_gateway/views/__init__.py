"""What each group of Pilots sees of the snapshots, and who belongs to which group."""

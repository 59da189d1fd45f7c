"""What operators see: logs. Reads snapshots and events only."""

"""The outage, reproduced for real, watched and told."""

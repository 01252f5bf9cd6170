"""What the paper concludes from AP: class overlap, ambiguous RoIs, contrasts, schedules."""

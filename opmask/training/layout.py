"""What lies in a training's folder, and where it is published."""

FINAL = "model_final.pth"  # the finished run's weights

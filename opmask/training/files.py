"""What lies in a training's work folder, and where it is published."""

CONFIG = "config.yaml"  # detectron2's configuration
FINAL = "model_final.pth"  # the finished run's weights
NUMBERED = "model_{:07d}.pth"  # weights of, or after, so many iterations
SNAPSHOTS = "snapshots"  # folder of weights that are kept, `NUMBERED` by iterations done
METRICS = "metrics.json"  # detectron2's log, a JSON object a line
TENSORBOARD = "tensorboard"  # folder of the same for TensorBoard
HELD_OUT = "held_out.json"  # ids of the images kept out of training
SESSIONS = "sessions.jsonl"  # how long each session took, in work folders only
ANNOTATIONS = "annotations"  # folder beside work folders: parsed ones, of `opmask.data.shared`
FEATURES = "features"  # folder beside work folders: of images, by `opmask.model.frozen_features`

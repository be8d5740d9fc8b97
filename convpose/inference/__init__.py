"""From a picture, clip or webcam to keypoints in its pixels; training is not needed for it."""

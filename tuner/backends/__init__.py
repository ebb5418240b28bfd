"""Where trials run: in this process (inline) or as Ray trials (ray_tune). Both speak to one Driver."""

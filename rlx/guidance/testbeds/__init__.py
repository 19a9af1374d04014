"""Problems whose aligned law, values and log Z are known exactly."""

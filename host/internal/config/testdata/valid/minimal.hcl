# nothing configured, and that is meant

this is not (( configuration

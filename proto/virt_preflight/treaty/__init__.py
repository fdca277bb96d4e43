"""What agent and controller must do alike, and no message says: who is who, who may ask what."""

"""Values of pixels as the sky has them, and as a network sees them. Open `transform` first."""

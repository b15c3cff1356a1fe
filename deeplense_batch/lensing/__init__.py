"""Strong lensing as pure functions of tensors; angles in arcsec."""

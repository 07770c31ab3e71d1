"""The workers as a whole: started, watched, replaced, retired."""

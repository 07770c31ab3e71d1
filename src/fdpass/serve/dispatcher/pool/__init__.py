"""The workers as a whole: started, checked, replaced, retired."""

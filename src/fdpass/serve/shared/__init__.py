"""The contract between dispatcher and workers. Imports none of the other rooms."""

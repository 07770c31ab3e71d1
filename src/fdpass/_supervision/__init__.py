"""Parts that `fdpass serve` and `fdpass keep` share: loop, backoff, reaping, notifications, commands, log."""

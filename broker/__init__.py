"""Bus and store seams, machine and runner, dispatcher."""

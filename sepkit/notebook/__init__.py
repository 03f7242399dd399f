"""What a page shows: players, explorers, tables of songs, figures."""

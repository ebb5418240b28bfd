"""The command line: one file a command. A command parses, calls the engine and prints.

main.py      the entry: errors become sentences and exit statuses in this one place
arguments.py the arguments that several commands share
words.py     values as a person reads them
columns.py   a table that fits the terminal's width
terminal.py  where output goes
progress.py  what a running sweep shows; standing.py: what there is to show
summary.py   what a sweep that has ended shows
"""

"""The conversation in the terminal.

session   pure: a typed line → what to do; the history
plain     pure: text from a model → text that a terminal can be given
terminal  reads keys and draws
"""

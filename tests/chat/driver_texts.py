"""What the scripted model of `driver` writes."""

MARKDOWN = "# Title\nSome **bold** text.\n\n```python\ndef f(x):\n    return x\n```\ndone"

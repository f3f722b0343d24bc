"""The conversation in the terminal.

session      pure: what is typed → an action of `actions`; the history. With it `commands`, the table of them;
             `choices`, what `/set` sets; `attachments`, the files of a message
spoken       pure: the engine's events → thoughts and answer
markdown     pure: an answer in colours while it streams; plain: text that a terminal can be given
tally        pure: what answers cost
completion   what Tab offers
archive      saved chats on the disk; files: the text files that are read
model        whom the conversation is held with: a protocol
prompt       the line that is typed
screen       what is drawn
terminal     the conversation: prompt → session → model → screen
"""

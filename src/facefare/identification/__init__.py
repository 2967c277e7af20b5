"""The client side of private identification: quantise, split, seal, sign; fan out and combine.

A terminal or an enrolment station makes a request (`requests`); the wallet relays it to the three guardians
and puts their answers together (`relay`). Nobody here sees a template and an answer at the same time.
"""

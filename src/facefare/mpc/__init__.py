"""Shares and the three-party protocol: arrays and channels in, match bits out. Knows no files, no HTTP."""

from facefare.mpc.admission import InputRule
from facefare.mpc.answers import Answer, AnswerShare, Match, NoMatch, Several, combine
from facefare.mpc.channels import Channel
from facefare.mpc.errors import ChannelClosed, MpcError, OutOfStep, SessionEnded, ShareMismatch
from facefare.mpc.party import Party
from facefare.mpc.sharing import held_by, split

__all__ = [
    "Answer",
    "AnswerShare",
    "Channel",
    "ChannelClosed",
    "InputRule",
    "Match",
    "MpcError",
    "NoMatch",
    "OutOfStep",
    "Party",
    "SessionEnded",
    "Several",
    "ShareMismatch",
    "combine",
    "held_by",
    "split",
]

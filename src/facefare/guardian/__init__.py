"""One guardian as a service: share store, policy, request log, TLS links, lock-step engine, HTTP.

A guardian holds shares only, decides by itself whether it takes part, and answers from the same
gallery version as the other two or not at all. For the other rooms only `messages` is public.
"""

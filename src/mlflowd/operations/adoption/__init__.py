"""Taking over an MLflow that runs in somebody else's container.

deployed finds it, understand reads its command line and environment, counts looks at its data, plan says what will be
done: those change nothing. transfer, relocate, filestore and undo carry a plan out.
"""

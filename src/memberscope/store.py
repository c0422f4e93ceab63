class Store:
    def __init__(s, folder, reuse="auto"): pass

"""Message-bus job broker for hybrid quantum-classical work: the public facade."""

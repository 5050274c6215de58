"""Every enrollment of an iSpring Learn account: fast, once, with proof that nothing is missing."""

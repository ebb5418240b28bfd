from conformance_strategies import StrategyConformance


class TestConformance(StrategyConformance):
    strategy = "anneal"

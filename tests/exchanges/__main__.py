"""Play the exchanges again, and write down what comes of them now: python -m tests.exchanges."""

from tests.exchanges.exchange import RECORDED, load, play, save

for path in sorted(RECORDED.glob("*.json")):
    exchanges = load(path)
    for exchange in exchanges:
        exchange.sent, exchange.answered = play(exchange)
    save(path, exchanges)

"""Sends back the arrays that it received."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, _: Context) -> Message:
    content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 10})})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, _: Context) -> Message:
    return Message(content=RecordDict({"metrics": MetricRecord({"num-examples": 10})}), reply_to=message)

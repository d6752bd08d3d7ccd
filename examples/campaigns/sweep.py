"""Runs two campaigns that differ in their learning rate, and pulls the better adapter.

export FEDLOOM_URL=http://127.0.0.1:8470 FEDLOOM_KEY_FILE=fedloom-data/operator.key
python examples/campaigns/sweep.py examples/campaign.yaml best-adapter
"""

import sys
from pathlib import Path

from fedloom import CampaignSpec, Client
from shared.campaign.file import read_campaign_file
from shared.wire.campaigns import CampaignDetail

LEARNING_RATES = (1e-4, 5e-4)


def with_learning_rate(spec: CampaignSpec, rate: float) -> CampaignSpec:
    """Return the campaign with another learning rate, and the rate in its name."""
    fields = spec.model_dump()
    fields["name"] = f"{spec.name}-lr{rate:g}"
    fields["training"]["learning_rate"] = rate
    return CampaignSpec.model_validate(fields)


def best_loss(client: Client, campaign: CampaignDetail) -> float:
    """The lowest held-out loss of a campaign; infinite if it was not evaluated."""
    if campaign.best_adapter is None:
        return float("inf")
    loss = client.adapter(campaign.id, "best").held_out_loss
    return float("inf") if loss is None else loss


def main(file: Path, folder: Path) -> None:
    """Start both campaigns, wait for them, print their losses by round, and pull the better adapter."""
    spec = read_campaign_file(file)
    with Client() as client:
        started = [client.create_campaign(with_learning_rate(spec, rate)) for rate in LEARNING_RATES]
        ended = [client.wait(campaign.id) for campaign in started]
        for campaign in ended:
            losses = [
                f"{metric.value:.4f}"
                for metric in client.metrics(campaign.id, "held_out_loss")
                if metric.client_number is None
            ]
            print(f"{campaign.name}: {campaign.state}, held-out loss {' '.join(losses) or 'not evaluated'}")
        winner = min(ended, key=lambda campaign: best_loss(client, campaign))
        adapter = client.pull_adapter(winner.id, "best", folder)
        print(f"{winner.name} wins: adapter {adapter.number}, held-out loss {adapter.held_out_loss}, in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/campaigns/sweep.py CAMPAIGN_FILE FOLDER")
    main(Path(sys.argv[1]), Path(sys.argv[2]))

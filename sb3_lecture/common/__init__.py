"""Mathematics and parts that name no agent."""

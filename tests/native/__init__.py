"""ocirt-init alone: what it makes of plans that no planner would write, and of trees that no honest image holds."""

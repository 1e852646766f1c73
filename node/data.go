// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"
)

// startData starts the data plane and waits until the node is Ready.
func (c *cluster) startData(ctx context.Context) error {
	client, err := c.newClient()
	if err != nil {
		return err
	}
	c.addProbe(checkAPI(client), checkNode(client, c.cfg.NodeName))
	if _, err := waitNode(ctx, client, c.cfg.NodeName, isReady); err != nil {
		return err
	}
	c.steps.Show(Progress{Step: "node Ready", Took: time.Since(c.begin)})
	return nil
}
